"""What is done about an alert: it is shown, written, handed to a command, posted to a webhook."""
