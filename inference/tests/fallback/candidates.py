"""The models that these tests ask in turn, and short forms of asking."""

from functools import partial

import pytest

from inference.fallback import Answering, Candidate, answer_from
from inference.models import ChatModelConfig
from inference.providers.anthropic import AnthropicProvider
from inference.providers.base import Finished, TextDelta, Timeouts
from inference.providers.deadlines import Deadlines
from inference.providers.local import LocalProvider
from inference.providers.openai import OpenAIProvider
from inference.tests.providers.asking import a_request, pulled
from inference.tests.standin import Answer
from llmsite.core import errors

KEY = "sk-canary-8dK3vR1p"
PROVIDERS = {
    "openai": lambda url: OpenAIProvider(api_key=KEY, base_url=f"{url}/v1", connect_timeout=0.2),
    "anthropic": lambda url: AnthropicProvider(api_key=KEY, base_url=url, connect_timeout=0.2),
    "local": lambda url: LocalProvider(base_url=url, embedded=False, connect_timeout=0.2),
}
FAILED = Answer(status=500)


def a_candidate(url, *, provider="local", alias="first", timeouts=None, **values):
    made = PROVIDERS[provider](url)
    return Candidate(
        # The address tells the stand-ins apart where both speak as the same provider.
        model=ChatModelConfig(alias=alias, provider=provider, provider_model=alias, base_url=url),
        provider=Deadlines(made, timeouts or Timeouts()),
        request=a_request(model=alias, **values),
    )


async def each(*candidates):
    for candidate in candidates:
        yield candidate


def events_of(candidates):
    """The events of the first that answers, one by one; closing cancels the call."""
    return pulled(partial(answer_from, candidates))


async def ask(*candidates):
    """Who answered, after which attempts, with which text."""
    events = []
    await answer_from(each(*candidates), events.append)
    answering, *rest = events
    assert isinstance(answering, Answering)
    assert isinstance(rest[-1], Finished)
    text = "".join(event.text for event in rest if isinstance(event, TextDelta))
    return answering.candidate.model.alias, [tuple(one.values()) for one in answering.attempts], text


async def refused(*candidates):
    with pytest.raises(errors.SiteError) as caught:
        await ask(*candidates)
    return caught.value
