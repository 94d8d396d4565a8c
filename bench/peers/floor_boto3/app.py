"""A floor: the runtime, and what whoever asks Secrets Manager through boto3 must load."""

import boto3

secrets = boto3.client("secretsmanager")


def lambda_handler(_event: dict, _context: object) -> dict:
    """Answer that all is well."""
    return {"batchItemFailures": []}
