from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from accounts import erasure, export, key_choices, prices, roles
        from embeddings import deletion
        from inference import checks, personal_data  # noqa: F401 – the checks register themselves
        from inference.grounding.forgetting import forget_documents
        from inference.models import ChatModelConfig

        roles.contribute(
            roles.OPERATOR,
            "inference.view_chatmodelconfig",
            "inference.add_chatmodelconfig",
            "inference.change_chatmodelconfig",
            "inference.view_generation",
            "inference.view_adapter",
            "inference.view_engineprocess",
            "inference.view_adapterload",
        )
        roles.contribute(roles.CURATOR, "inference.view_verifiedanswer")
        roles.contribute(
            roles.ADMIN,
            "inference.view_conversation",
            "inference.view_message",
            "inference.view_answersource",
            "inference.read_others_conversations",
        )
        erasure.register(personal_data.erase)
        deletion.register(forget_documents)
        export.contribute("conversations", personal_data.export)
        key_choices.offer_models(ChatModelConfig.objects.aliases)
        prices.tell_unpriced(ChatModelConfig.objects.unpriced)
