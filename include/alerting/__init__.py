"""The drill of the admin's alert: that it reaches its receiver is shown, link by link, not believed."""
