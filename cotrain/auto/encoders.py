"""Pretrained encoders as views of the table's columns."""
