"""Object storage: who one is there, from the environment or the files that every S3 client reads."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from urllib.parse import urlsplit

from selfrepair.warehouse.database.lake.postgres import text
from selfrepair.warehouse.errors import SelfRepairError


def secret(data: str) -> str:
    """The statement with which DuckDB gets to know the keys of the bucket, for this connection alone.

    Raises SelfRepairError where there are none.
    """
    found = _credentials()
    if not found.get("aws_access_key_id") or not found.get("aws_secret_access_key"):
        raise SelfRepairError(
            f"there are no credentials for {data}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, "
            "AWS_REGION, AWS_ENDPOINT_URL where they are needed), or AWS_PROFILE to a profile of ~/.aws/credentials."
        )
    options = {"KEY_ID": found["aws_access_key_id"], "SECRET": found["aws_secret_access_key"]}
    options["REGION"] = found.get("region") or "us-east-1"
    if token := found.get("aws_session_token"):
        options["SESSION_TOKEN"] = token
    bare = ""
    if endpoint := found.get("endpoint_url"):
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options |= {"ENDPOINT": parts.netloc + parts.path.rstrip("/"), "URL_STYLE": "path"}
        bare = f", USE_SSL {'false' if parts.scheme == 'http' else 'true'}"
    listed = ", ".join(f"{name} {text(value)}" for name, value in options.items())
    return f"CREATE SECRET bucket (TYPE s3, {listed}{bare}, SCOPE {text(_bucket(data))})"


def _bucket(data: str) -> str:
    return f"s3://{urlsplit(data).netloc}"


def _credentials() -> dict[str, str]:
    profile = os.environ.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", profile if profile == "default" else f"profile {profile}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", profile),
    ):
        parser = configparser.RawConfigParser()
        parser.read(Path(os.environ.get(variable) or usual).expanduser(), encoding="utf-8")
        if parser.has_section(section):
            found |= dict(parser.items(section))
    by_variable = {
        "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
        "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
        "aws_session_token": ("AWS_SESSION_TOKEN",),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    }
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        found.pop("aws_session_token", None)  # of another identity
    for name, variables in by_variable.items():
        for variable in variables:
            if value := os.environ.get(variable):
                found[name] = value
                break
    return found
