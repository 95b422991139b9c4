"""`abhinaya reproduce`: the whole road from a corpus to the tables of a paper."""
