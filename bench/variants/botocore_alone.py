"""botocore in place of boto3, which adds resources, a session of its own and an import to it."""

import sys
from types import SimpleNamespace


def _client(name: str, **options: object) -> object:
    import botocore.session  # noqa: PLC0415 - as late as boto3 is imported

    return botocore.session.get_session().create_client(name, **options)


sys.modules["boto3"] = SimpleNamespace(client=_client)

from completion_sync.handler import lambda_handler  # noqa: E402 - boto3 must have been replaced
