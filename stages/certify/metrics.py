"""What the certify stage shows to Prometheus."""

from pipeline.monitor.metrics import counter

IMAGES = counter(
    "supnorm_certify_images_total",
    "Images examined: certified, undecided, broken by the attack, or wrong unchanged.",
    "verdict",
)
