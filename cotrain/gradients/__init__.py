"""Gradient rules: what happens between backward and the optimizer of one learner."""
