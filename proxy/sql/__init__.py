"""Reading PostgreSQL statements and deciding masks. Pure: no I/O, no clock, no randomness.

`guard.read` decides one text; `masked.resolve` turns the masks of a grant into the columns they mean in a
live catalog; `mask.plan_columns` and `rows.rewrite_data_rows` apply the decision to what the server answers.
"""
