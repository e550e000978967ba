#!/usr/bin/env bash
# Regenerate every pinned, hashed file in this folder from the extras and dependency groups of pyproject.toml.
#
#   requirements/compile.sh             keep the pins that still satisfy pyproject.toml
#   requirements/compile.sh --upgrade   take the newest release of everything
#
# Needs `uv` on PATH (or named by $UV). One file serves every Python from 3.11 on and every platform (--universal): lines
# that differ carry markers, and the hashes cover all files of a release. The files name no index, so they install from
# whichever index the reader's pip is set to; the hashes see to it that every index serves the same files.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}

# Pins come from the default index alone: neither pip's nor uv's configuration, nor a wheel lying on this machine, may
# leave a version or a hash here that nobody else can download.
unset "${!PIP_@}" "${!UV_@}"
export UV_NO_CONFIG=1 PIP_CONFIG_FILE=/dev/null

options=(
    --universal --generate-hashes
    --no-header --no-emit-index-url --no-emit-find-links --quiet
)
if [[ ${1:-} == --upgrade ]]; then options+=(--upgrade); fi

oldest_python=3.11
pin() { # pin <file> <what uv should resolve...>
    local target=requirements/$1
    shift
    "$uv" pip compile "${options[@]}" --python-version "$oldest_python" "$@" --output-file "$target"
    if grep -nE '://|^ *(-i|-f|--index-url|--extra-index-url|--find-links)\b' "$target"; then
        echo "$target: the lines above name an index or a file" >&2
        exit 1
    fi
    echo "$target: $(grep -c '==' "$target") pins"
}

project() { # project <file> <extra,extra> <group,group> [option...]: the distribution, some of its extras, and tools
    local file=$1 extras=() groups=(--group build) name
    for name in ${2//,/ }; do extras+=(--extra "$name"); done
    for name in ${3//,/ }; do groups+=(--group "$name"); done
    pin "$file" pyproject.toml "${extras[@]}" "${groups[@]}" "${@:4}"
}

without_framework=openai,anthropic,aiohttp,otel,redis,tokens,cli,testing

project demo.txt demo ""
project core.txt $without_framework tests
project sdk-previous.txt $without_framework tests,sdk-previous
# Each framework by itself, so that an adapter cannot lean on another one's; and all of them with the servers.
project fastapi.txt fastapi,openai,anthropic,redis,cli,testing tests
project flask.txt flask,openai,anthropic,redis,cli,testing tests
project litestar.txt litestar,openai,anthropic,redis,cli,testing tests
project django.txt django,openai,anthropic,redis,cli,testing tests,postgresql
project django-52.txt django,openai,anthropic,redis,cli,testing tests,postgresql,django-52
oldest_python=3.12 project django-60.txt django,openai,anthropic,redis,cli,testing tests,postgresql,django-60
project frameworks.txt all tests,servers
# The oldest release of each direct dependency that pyproject.toml admits, with the newest of what those bring along.
project lowest.txt all tests,servers --resolution lowest-direct
project typing.txt all tests,servers,typing
project dev.txt all dev
# These two stand beside the project and install none of its dependencies.
pin lint.txt --group lint
pin tox.txt --group tox
