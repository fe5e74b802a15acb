"""Instruments: a look inside a user's own nets and runs."""
