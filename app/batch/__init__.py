"""`spectac batch`: a list of studies, each compared by all chosen methods, and an overview of all results."""
