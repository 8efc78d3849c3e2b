"""Statistics of rows: mergeable, bounded in memory, the same for any batches, order of rows and number of workers."""
