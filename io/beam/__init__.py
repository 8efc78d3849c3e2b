"""Additions to Beam, and all code that uses private parts of Beam.

No other folder uses private parts. They may change with any release of Beam; `tests/io/beam/test_private_parts.py` then
fails first, and says which module here relies on which part.

================  ======================================================  =============================================
module            private part                                            asked for at Beam
================  ======================================================  =============================================
`cancellation`    threads of the worker pool, and whether one has work    none filed; related: beam#18756
`flags`           `_add_argparse_args` of each family of options          none filed
`local`           provision info, bundles and folder of FnApiRunner;      none filed
                  lost rows; a worker's handler, channel and connection
`runner_jobs`     the id of a job at a portable runner                    none filed
`stable_input`    the handler that reads a ParDo from a graph             beam#19446, of the portable runners
`timers`          the stream and coder behind a timer                     beam#20705
================  ======================================================  =============================================
"""
