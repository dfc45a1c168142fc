"""A message's whole life, one file for each stage."""
