"""The local pipeline: the built function in Lambda's runtime, between an AWS emulator and the stand-in Thrive API.

`rig` puts everything together: `artefact` builds the function, `emulator` runs AWS, `stack` deploys template.yaml to
it, `runtime` runs the function, `poller` (by the rules in `batches`) plays Lambda's event source mapping, `mail` sends
messages and reads queues, `emf` reads the function's logs, and `processes` ends what was started.
"""
