"""The official SDKs by themselves, as their own documentation shows them."""

from __future__ import annotations

from typing import Any

from overhead.conversation import ANTHROPIC_MODEL, MAX_OUTPUT_TOKENS, OPENAI_MODEL, SYSTEM, chat, turns
from overhead.operations import Answer, Operations, Setting

PACKAGES = ("openai", "anthropic")


def build(setting: Setting) -> Operations:
    if setting.provider == "anthropic":
        return _anthropic(setting)
    return _responses(setting) if setting.api == "responses" else openai_chat(setting)


def openai_clients(setting: Setting) -> tuple[Any, Any]:
    """An asynchronous and a synchronous client."""
    import openai

    options: dict[str, Any] = {"api_key": "sk-benchmark", "base_url": setting.openai_base_url}
    sync_client = openai.OpenAI(**options)
    if setting.transport == "aiohttp":
        options["http_client"] = openai.DefaultAioHttpClient()
    return openai.AsyncOpenAI(**options), sync_client


class _ChatPieces:
    """Reads the chunks of a Chat Completions stream."""

    def __init__(self) -> None:
        self.pieces = self.characters = 0
        self.usage: Any = None

    def add(self, chunk: Any) -> None:
        if chunk.choices and chunk.choices[0].delta.content:
            self.pieces += 1
            self.characters += len(chunk.choices[0].delta.content)
        if chunk.usage:
            self.usage = chunk.usage

    def answer(self) -> Answer:
        return Answer(self.pieces, self.characters, self.usage.prompt_tokens, self.usage.completion_tokens)


def openai_chat(setting: Setting) -> Operations:
    """Chat Completions."""
    client, sync_client = openai_clients(setting)
    common: dict[str, Any] = {"model": OPENAI_MODEL, "max_completion_tokens": MAX_OUTPUT_TOKENS}
    streamed: dict[str, Any] = {**common, "stream": True, "stream_options": {"include_usage": True}}

    def read(completion: Any) -> Answer:
        usage = completion.usage
        return Answer(1, len(completion.choices[0].message.content), usage.prompt_tokens, usage.completion_tokens)

    async def call(messages: int) -> Answer:
        return read(await client.chat.completions.create(messages=chat(messages), **common))

    async def stream(messages: int) -> Answer:
        pieces = _ChatPieces()
        async for chunk in await client.chat.completions.create(messages=chat(messages), **streamed):
            pieces.add(chunk)
        return pieces.answer()

    def call_sync(messages: int) -> Answer:
        return read(sync_client.chat.completions.create(messages=chat(messages), **common))

    def stream_sync(messages: int) -> Answer:
        pieces = _ChatPieces()
        for chunk in sync_client.chat.completions.create(messages=chat(messages), **streamed):
            pieces.add(chunk)
        return pieces.answer()

    return Operations(call, stream, call_sync, stream_sync)


def _responses(setting: Setting) -> Operations:
    """The Responses API, which turnpike 0.1.1 uses."""
    client, sync_client = openai_clients(setting)
    common: dict[str, Any] = {"model": OPENAI_MODEL, "max_output_tokens": MAX_OUTPUT_TOKENS}

    def read(response: Any) -> Answer:
        return Answer(1, len(response.output_text), response.usage.input_tokens, response.usage.output_tokens)

    async def call(messages: int) -> Answer:
        return read(await client.responses.create(input=chat(messages), **common))

    async def stream(messages: int) -> Answer:
        pieces = characters = 0
        usage: Any = None
        async for event in await client.responses.create(input=chat(messages), stream=True, **common):
            if event.type == "response.output_text.delta":
                pieces += 1
                characters += len(event.delta)
            elif event.type == "response.completed":
                usage = event.response.usage
        return Answer(pieces, characters, usage.input_tokens, usage.output_tokens)

    def call_sync(messages: int) -> Answer:
        return read(sync_client.responses.create(input=chat(messages), **common))

    return Operations(call, stream, call_sync)


class _MessagePieces:
    """Reads the events of an Anthropic stream."""

    def __init__(self) -> None:
        self.pieces = self.characters = 0
        self.tokens_in = self.tokens_out = 0

    def add(self, event: Any) -> None:
        if event.type == "content_block_delta":
            self.pieces += 1
            self.characters += len(event.delta.text)
        elif event.type == "message_start":
            usage = event.message.usage
            self.tokens_in = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        elif event.type == "message_delta":
            self.tokens_out = event.usage.output_tokens

    def answer(self) -> Answer:
        return Answer(self.pieces, self.characters, self.tokens_in, self.tokens_out)


def _anthropic(setting: Setting) -> Operations:
    import anthropic

    options: dict[str, Any] = {"api_key": "sk-benchmark", "base_url": setting.server}
    sync_client: Any = anthropic.Anthropic(**options)
    if setting.transport == "aiohttp":
        options["http_client"] = anthropic.DefaultAioHttpClient()
    client: Any = anthropic.AsyncAnthropic(**options)
    common: dict[str, Any] = {"model": ANTHROPIC_MODEL, "max_tokens": MAX_OUTPUT_TOKENS, "system": SYSTEM}

    def read(message: Any) -> Answer:
        usage = message.usage
        tokens_in = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        return Answer(1, len(message.content[0].text), tokens_in, usage.output_tokens)

    async def call(messages: int) -> Answer:
        return read(await client.messages.create(messages=turns(messages), **common))

    async def stream(messages: int) -> Answer:
        pieces = _MessagePieces()
        async for event in await client.messages.create(messages=turns(messages), stream=True, **common):
            pieces.add(event)
        return pieces.answer()

    def call_sync(messages: int) -> Answer:
        return read(sync_client.messages.create(messages=turns(messages), **common))

    def stream_sync(messages: int) -> Answer:
        pieces = _MessagePieces()
        for event in sync_client.messages.create(messages=turns(messages), stream=True, **common):
            pieces.add(event)
        return pieces.answer()

    return Operations(call, stream, call_sync, stream_sync)
