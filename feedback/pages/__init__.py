"""The pages on which curators review feedback. They work as plain forms, and by keyboard."""
