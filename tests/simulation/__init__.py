"""A deterministic simulation of the whole: the package that ships, in a world in which everything goes wrong.

`python -m tests.simulation --help` runs it by hand; :mod:`tests.simulation.watch` lists what must hold,
:mod:`tests.simulation.bites` how the code is broken to see that this is noticed. What is simulated, and what is not,
stands at the head of each module: :mod:`.kernel` (threads and time), :mod:`.queues` (SQS), :mod:`.lambdas` (Lambda),
:mod:`.thrive` (Thrive and Secrets Manager); :mod:`.package` says where the shipped code ends and the simulation begins.
"""
