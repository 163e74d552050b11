"""Where a model's weights lie: on one device, or its layers on several."""
