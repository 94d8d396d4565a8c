"""A baseline: the runtime alone."""


def lambda_handler(_event: dict, _context: object) -> dict:
    """Report success."""
    return {"batchItemFailures": []}
