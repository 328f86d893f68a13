"""The rules of Portcullis: pure decisions over frozen values, with no I/O, clock or randomness."""
