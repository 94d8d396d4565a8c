"""`make demo`: send messages through the local pipeline while things go wrong, and account for every one of them.

`run` is the sequence, `workload` (with `shapes`) and `foreign` make the messages, `events_file` reads the user's own,
`trouble` is what goes wrong, `reconcile` is the check, `report` prints the result, and `picture` saves all as SVG.
"""
