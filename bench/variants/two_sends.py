"""Head and body of a request apart, as http.client sends them."""

import http.client

from completion_sync import transport
from completion_sync.handler import lambda_handler

transport._DeadlineMixin.send = http.client.HTTPConnection.send
