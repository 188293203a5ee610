"""The environment variables of a function: Lambda's own, what the machine needs, and the function's."""

from __future__ import annotations

import sys
from typing import Any

#: Unless the function says otherwise. Libraries that start threads when they are imported cannot be forked after it.
_DEFAULTS = {
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # as above: pandas imports pyarrow, which starts a thread
}
_REGION = "us-east-1"


def variables(settings: dict[str, Any]) -> dict[str, str]:
    """Return all variables; those that Lambda reserves win over the function's own (source: Lambda's manual).

    >>> found = variables({"name": "hello", "version": "$LATEST", "memory": 128, "handler": "app.handler",
    ...     "log_group": "/aws/lambda/hello", "log_stream": "s", "arn": "arn:aws:lambda:eu-west-1:0:function:hello",
    ...     "env": {"TZ": "Europe/Vienna", "AWS_REGION": "mars"}})
    >>> found["AWS_REGION"], found["TZ"], found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    ('eu-west-1', 'Europe/Vienna', '128')
    """
    arn = settings["arn"].split(":")
    region = arn[3] if len(arn) > 3 and arn[3] else _REGION
    reserved = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_NAME": settings["name"],
        "AWS_LAMBDA_FUNCTION_VERSION": settings["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings["memory"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": settings["log_group"],
        "AWS_LAMBDA_LOG_STREAM_NAME": settings["log_stream"],
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "_HANDLER": settings["handler"],
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
    own: dict[str, str] = settings["env"]
    return _DEFAULTS | own | reserved
