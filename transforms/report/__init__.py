"""A report on data as one HTML file: from statistics, anomalies, a schema, a manifest, dead letters and history.

Functions here turn protos into what a page shows, with no HTML; `assets/` has the template, the style and the script.
"""
