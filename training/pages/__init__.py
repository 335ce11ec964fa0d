"""The pages on which operators train, examine and promote models. They work as plain forms."""
