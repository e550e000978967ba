"""``turnpike tokens``: which vocabularies are on disk, and fetching them before the application needs them."""

from __future__ import annotations

from importlib.util import find_spec

import click

from turnpike.errors import MissingExtraError
from turnpike.tokens import VOCABULARIES, Vocabulary, cache_directory, fetch, vocabulary_for

__all__ = ["tokens"]


@click.group()
def tokens() -> None:
    """Vocabularies for exact token counts: see what is on disk, or fetch them.

    Serving requests never downloads one; where it is missing, counts are upper bounds.
    """


@tokens.command()
def status() -> None:
    """Say which vocabularies are on disk, and where they are looked for."""
    installed = "installed" if find_spec("tiktoken") else "not installed: pip install 'turnpike[tokens]'"
    directory = cache_directory()
    click.echo(f"tiktoken: {installed}")
    click.echo(f"cache: {directory or 'off, because its variable is empty'}")
    for vocabulary in VOCABULARIES.values():
        click.echo(f"{vocabulary.name}: {vocabulary.state()}")


@tokens.command(name="fetch")
@click.option("--model", "models", multiple=True, help="Fetch what this model needs; may be repeated. Default: all.")
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for each file.",
)
def fetch_command(models: tuple[str, ...], timeout_s: float) -> None:
    """Download vocabularies into tiktoken's cache, where they are not there already."""
    for vocabulary in _wanted(models):
        if vocabulary.state() == "on disk":
            click.echo(f"{vocabulary.name}: on disk already")
            continue
        try:
            path = fetch(vocabulary, timeout_s=timeout_s)
        except OSError as error:
            raise click.ClickException(f"Cannot fetch {vocabulary.name}: {error}") from None
        click.echo(f"{vocabulary.name}: fetched to {path}")


def _wanted(models: tuple[str, ...]) -> list[Vocabulary]:
    if not models:
        return list(VOCABULARIES.values())
    if not find_spec("tiktoken"):
        raise MissingExtraError("Finding a model's vocabulary", "tokens")
    found: dict[str, Vocabulary] = {}
    for model in models:
        vocabulary = vocabulary_for(model)
        if vocabulary is None:
            click.echo(f"{model}: has no vocabulary that tiktoken publishes; its texts are counted by the bound")
        else:
            found[vocabulary.name] = vocabulary
    return list(found.values())
