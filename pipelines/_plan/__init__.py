"""What `prepare`, `fit` and the jobs beside them share: a recipe, read from what their flags name, bound to a schema.

Every fault that can be detected without reading a row is detected here, before a pipeline starts.
"""
