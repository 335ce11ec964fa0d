"""The pages on which people look after their documents and read them. They work as plain forms."""
