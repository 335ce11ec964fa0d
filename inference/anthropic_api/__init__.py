"""Anthropic's Messages API below `/v1/messages`, for programs that were written for it.

https://docs.anthropic.com/en/api/messages is what they expect; `llmsite/core/dialects.py` has its errors and
headers. Any model of the site answers, whoever serves it. What becomes of a field follows the rules of
`inference.openai_api`.
"""
