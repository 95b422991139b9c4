from __future__ import annotations

from abhinaya.models.served.circuit import Circuit


def test_it_opens_after_failures_in_a_row_and_only_then() -> None:
    circuit = Circuit(limit=3, rest_s=10)
    for _ in range(5):
        circuit.failed(0)
        circuit.failed(0)
        circuit.succeeded()
        assert circuit.wait_s(0) == 0
    for _ in range(3):
        assert circuit.wait_s(1) == 0
        circuit.failed(1)
    assert circuit.wait_s(1) == 10
    assert circuit.wait_s(10.5) == 0.5


def test_one_request_tries_and_decides() -> None:
    circuit = Circuit(limit=1, rest_s=10)
    circuit.failed(0)
    assert circuit.wait_s(10) == 0
    assert circuit.wait_s(10) == 10, "a second one has to wait for what the first finds"
    circuit.failed(12)
    assert circuit.wait_s(12) == 10
    assert circuit.wait_s(22) == 0
    circuit.succeeded()
    assert [circuit.wait_s(22), circuit.wait_s(22)] == [0, 0]


def test_a_late_failure_of_an_old_request_opens_no_circuit_that_works() -> None:
    circuit = Circuit(limit=2, rest_s=10)
    circuit.failed(0)
    circuit.failed(0)
    assert circuit.wait_s(10) == 0
    circuit.succeeded()
    circuit.failed(11)
    assert circuit.wait_s(11) == 0
