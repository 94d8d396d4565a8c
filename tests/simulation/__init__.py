"""A deterministic simulation: the package that ships, in a world in which everything goes wrong.

`python -m tests.simulation --help` runs it by hand. :mod:`.watch` lists what must hold, and :mod:`.bites` how the code
is broken to see whether the watch notices. Each module says at its head what it simulates and what it does not:
:mod:`.kernel` (threads and time), :mod:`.queues` (SQS), :mod:`.lambdas` (Lambda), :mod:`.thrive` (Thrive and Secrets
Manager), :mod:`.s3`. :mod:`.package` shows where the shipped code ends and the simulation begins.
"""
