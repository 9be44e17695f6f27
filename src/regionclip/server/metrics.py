"""What the service tells Prometheus of itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, apart from those of any other in the same process.

    Attributes:
        num_in_flight: Requests taken and not answered yet.
    """

    def __init__(self) -> None:
        """All at zero."""
        self.num_in_flight = 0
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "regionclip_requests",
            "Requests answered, by route and status",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "regionclip_request_seconds",
            "From the end of the headers to the answer's last byte",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        in_flight = Gauge(
            "regionclip_requests_in_flight", "Taken and not answered yet", registry=self.registry
        )
        in_flight.set_function(lambda: self.num_in_flight)
        self.batches = Histogram(
            "regionclip_batch_images",
            "Images computed at once",
            buckets=SIZES,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "regionclip_images_waiting", "Images that wait for the model", registry=self.registry
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
