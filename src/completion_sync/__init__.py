"""Records learning completions in Thrive: events from SQS or EventBridge become records through Thrive's public API.

The entry point is :func:`completion_sync.handler.lambda_handler`. Importing the package touches neither the network nor
the environment; :mod:`completion_sync.bootstrap` builds what an execution environment needs, once.
"""

__version__ = "0.2.0"
