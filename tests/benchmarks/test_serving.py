import pytest
import torch
from benchmarks import serving


@pytest.mark.docs  # one of the pages' commands, if for a shorter time
@pytest.mark.slow
def test_a_service_under_load_answers_all_of_it_rightly_and_ends_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "WARM_UP_SECONDS", 0.2)
    monkeypatch.setattr(serving, "SECONDS_BEFORE_THE_END", 1.5)
    report = serving.run(seconds=1.5, connections=8, device=torch.device("cpu"))
    # not how fast it is, and how much memory it takes: that is the machine's
    right = {text: met for text, met in report.targets.items() if "memory" not in text}
    assert list(right.values()) == [True, True], (right, report.notes)
    alone, together = report.rows
    assert alone["ratio"] == "1.00"
    rates = float(together["images/s"]), float(alone["images/s"])
    assert float(together["ratio"]) == pytest.approx(rates[0] / rates[1], rel=0.05)
    for row in report.rows:
        assert int(row["good answers"]) > 0
        assert int(row["refusals"]) > 0
        assert int(row["around SIGTERM: answered"]) > 0
