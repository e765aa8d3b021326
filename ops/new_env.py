"""Prints fresh secrets for docker-compose.yml: `(umask 077; python3 ops/new_env.py > .env)`, once per installation.

Rule: only what Compose's own interpolation and a URL take literally: letters, digits and a few signs.
"""

import base64
import secrets
import sys


def new_env() -> dict[str, str]:
    return {
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "HEADWAY_DATABASE_PASSWORD": secrets.token_hex(24),
        "TEMPORAL_DATABASE_PASSWORD": secrets.token_hex(24),
        "HEADWAY_SECRET_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "HEADWAY_FIRST_TOKEN": "hw_" + secrets.token_hex(32),
        "HEADWAY_TEMPORAL_UI_KEY": secrets.token_hex(32),
    }


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}={value}\n" for name, value in new_env().items())
