"""Explains boto3's errors, and what the operator can do about them."""

from __future__ import annotations

import botocore.exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from .errors import CommandError

POLICY = "docs/operator-policy.json lists what the command needs"

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403",
     "KMS.AccessDeniedException", "KmsAccessDenied"}
)  # fmt: skip
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_BAD_KEYS = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException",
     "InvalidAccessKeyId", "AuthFailure", "IncompleteSignature", "MissingAuthenticationToken"}
)  # fmt: skip
_THROTTLED = frozenset({"RequestLimitExceeded", "TooManyRequestsException", "SlowDown", "LimitExceededException"})
_LOGIN = "Sign in again with aws sso login (and --profile, if you use one), or renew the temporary credentials."
_NO_CREDENTIALS = (
    "Sign in (aws sso login), choose a profile (--profile), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)


def code_of(error: Exception) -> str:
    """Return AWS's error code, without the prefix of SQS; empty if AWS sent no answer."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")).removeprefix("AWS.SimpleQueueService.")


def is_denied(error: Exception) -> bool:
    """Return whether AWS denied the call."""
    return code_of(error) in _DENIED


def is_fatal(error: Exception) -> bool:
    """Return whether all other calls would fail too: the session has expired, or the credentials are unknown."""
    return code_of(error) in _EXPIRED | _BAD_KEYS


def is_temporary(error: BotoCoreError | ClientError) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or "Throttl" in code_of(error) or code_of(error) in _THROTTLED
    return isinstance(error, (boto.HTTPClientError, boto.ConnectionError))


def explain(error: BotoCoreError | ClientError, region: str = "") -> CommandError:
    """Return the error to show for an error of boto3."""
    if isinstance(error, ClientError):
        return _explain_answer(error)
    network = f"Is the Region right ({region or 'none is set'})? Is there a network connection, or a proxy?"
    for kinds, message, remedy in (
        ((boto.ProfileNotFound,), str(error), "List your profiles: aws configure list-profiles"),
        (
            (boto.NoRegionError,),
            "No AWS Region is set.",
            "Set the stack's Region, with --region eu-west-2 or AWS_DEFAULT_REGION.",
        ),
        (_SESSION_ERRORS, _EXPIRED_SESSION, _LOGIN),
        (_CREDENTIALS_ERRORS, "There are no usable AWS credentials.", _NO_CREDENTIALS),
        ((boto.HTTPClientError, boto.ConnectionError), f"AWS did not answer: {type(error).__name__}.", network),
    ):
        if isinstance(error, kinds):
            return CommandError(message, remedy)
    return CommandError(f"boto3: {error}")


def _explain_answer(error: ClientError) -> CommandError:
    code = code_of(error)
    call = error.operation_name
    if code in _EXPIRED:
        return CommandError(_EXPIRED_SESSION, _LOGIN)
    if code in _BAD_KEYS:
        return CommandError(f"AWS does not accept your credentials ({code}).", f"{_NO_CREDENTIALS} Is the clock right?")
    if code in _DENIED:
        return CommandError(f"AWS denied {call}.", f"Ask for the permission: {POLICY}.")
    message = str(error.response.get("Error", {}).get("Message", ""))
    return CommandError(f"{call}: AWS answered {code}{f' ({message})' if message else ''}.")


_EXPIRED_SESSION = "Your AWS session has expired."
_SESSION_ERRORS = (boto.TokenRetrievalError, boto.SSOError, boto.LoginError)
_CREDENTIALS_ERRORS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
