"""What is measured on statistics: views of the proto, histograms as arrays, distances, and what chance alone may do."""
