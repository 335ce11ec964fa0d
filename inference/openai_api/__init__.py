"""OpenAI's API below `/v1/`, for programs that were written for it: models, chat completions, embeddings.

https://platform.openai.com/docs/api-reference is what they expect; `llmsite/core/dialects.py` has its errors
and headers. Three rules decide what becomes of a field that a question brings:

1. What changes the answer is passed on where the model takes it. Of the sampling parameters one that a model
   does not take is dropped, and named in the answer; of what an answer has to be (tools, response_format) it
   is refused.
2. What changes no answer here (who asks, how the vendor runs or bills the call) is taken and ignored.
3. Everything else is refused by name: a field that was silently ignored would be a promise not kept.
"""
