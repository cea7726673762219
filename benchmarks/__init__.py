"""What Nightshift is measured with: models, images, and the measurements themselves."""
