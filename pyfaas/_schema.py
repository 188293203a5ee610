"""The bounds of every parameter, as pydantic models, and the texts that say what is wrong.

Only `_config` imports this module, and only when there is something to check: pydantic takes 130 ms to load.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pyfaas._config import BOUNDS, MAX_TIMEOUT
from pyfaas.errors import InvalidPackage

#: Names that Lambda sets itself and refuses in a function's configuration.
RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
MAX_ENV = 4096
MAX_BATCH_TIMEOUT = 4 * 3600
_NAME_PATTERN = r"[a-zA-Z][a-zA-Z0-9_]*"


def _environment(env: dict[str, str]) -> dict[str, str]:
    import re

    for name, value in env.items():
        if name in RESERVED:
            raise ValueError(f"{name!r} is set by pyfaas, as by Lambda: use another name")
        if not re.fullmatch(_NAME_PATTERN, name):
            raise ValueError(f"{name!r} is no name for a variable: a letter, then letters, digits and '_'")
        if "\0" in value:
            raise ValueError(f"the value of {name!r} has a NUL character in it")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in env.items())
    if size > MAX_ENV:
        raise ValueError(
            f"{size} bytes, but names and values may take {MAX_ENV} in all: put the rest into a file"
        )
    return env


def _between(name: str) -> Any:
    low, high = BOUNDS[name]
    return Field(ge=low, le=high)


class _Parameters(BaseModel):
    # Strict: "256" or True for a number is a mistake to point out, not to repair.
    model_config = ConfigDict(strict=True, extra="forbid", validate_default=False, hide_input_in_errors=True)
    wanted: ClassVar[dict[str, str]]


class FunctionConfig(_Parameters):
    """Bounds of `pyfaas._config.FunctionConfig`."""

    memory: Annotated[int, _between("memory")] = 128
    timeout: Annotated[float, Field(gt=0, le=MAX_BATCH_TIMEOUT)] = 3.0
    env: Annotated[dict[str, str], AfterValidator(_environment)] | None = None
    description: Annotated[str, Field(max_length=256)] = ""
    tags: (
        Annotated[
            dict[
                Annotated[str, Field(min_length=1, max_length=128)],
                Annotated[str, Field(max_length=256)],
            ],
            Field(max_length=50),
        ]
        | None
    ) = None
    max_payload: Annotated[int, _between("max_payload")] = 1
    reuse: Annotated[int, Field(ge=1)] | None = None
    idle_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    trusted: bool = False
    isolation: Literal["none", "standard", "strict"] = "standard"
    queue_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    batch: bool = False
    ephemeral_storage: Annotated[int, _between("ephemeral_storage")] = 512

    wanted = {
        "memory": "a whole number of MB from 128 to 10240",
        "timeout": "a number of seconds above 0, up to 900 (up to 14400 with batch=True)",
        "env": "a dict of str to str, 4096 bytes in all, or None",
        "description": "a str of up to 256 characters",
        "tags": "a dict of up to 50 str (1 to 128 characters) to str (up to 256), or None",
        "max_payload": "a whole number of bytes from 1 to 2147483647",
        "reuse": "a whole number of invocations, 1 or more, or None for no limit",
        "idle_timeout": "a number of seconds above 0, or None",
        "trusted": "True or False",
        "isolation": "'none', 'standard' or 'strict'",
        "queue_timeout": "a number of seconds, 0 or more, or None for as long as the timeout",
        "batch": "True or False",
        "ephemeral_storage": "a whole number of MB from 512 to 10240",
    }

    @model_validator(mode="after")
    def _long_only_in_batch(self) -> FunctionConfig:
        if self.timeout > MAX_TIMEOUT and not self.batch:
            limits = f"up to {MAX_TIMEOUT:g} seconds; batch=True allows {MAX_BATCH_TIMEOUT}"
            raise ValueError(f"timeout={self.timeout:g}: must be {limits}")
        return self


class RuntimeConfig(_Parameters):
    """Bounds of `pyfaas._config.RuntimeConfig`."""

    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    max_queue: Annotated[int, Field(ge=0)] = 0
    init_timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT)] = 10.0

    wanted = {
        "max_concurrency": "a whole number, 1 or more, or None for 10 for each CPU",
        "max_queue": "a whole number, 0 or more",
        "init_timeout": "a number of seconds above 0, up to 900",
    }


_MODELS: dict[str, type[_Parameters]] = {"FunctionConfig": FunctionConfig, "RuntimeConfig": RuntimeConfig}


def validate(kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters, checked and copied, or raise `InvalidPackage` that names every wrong one."""
    model = _MODELS[kind]
    try:
        valid = model.model_validate(parameters)
    except ValidationError as error:
        raise InvalidPackage("; ".join(_texts(model, error, parameters))) from None
    return {name: getattr(valid, name) for name in parameters}


def _texts(model: type[_Parameters], error: ValidationError, parameters: dict[str, Any]) -> list[str]:
    texts: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        said = str(one["ctx"]["error"]) if one["type"] == "value_error" else ""
        if not name:
            texts.setdefault(name, said)
        elif said:
            texts.setdefault(name, f"{name}: {said}")
        else:
            texts.setdefault(name, f"{name}={_shown(name, parameters[name])}: must be {model.wanted[name]}")
    return list(texts.values())


def _shown(name: str, value: object) -> str:
    """A value for an error's text, cut short; what is in `env` may be secret and is not shown."""
    text = f"<{type(value).__name__}>" if name == "env" else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


__all__ = ["RESERVED", "FunctionConfig", "RuntimeConfig", "validate"]
