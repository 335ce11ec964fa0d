from feedback.models.examples import Example, ExampleKind
from feedback.models.feedback import Feedback, ReviewStatus, Scope, Tag

__all__ = ["Example", "ExampleKind", "Feedback", "ReviewStatus", "Scope", "Tag"]
