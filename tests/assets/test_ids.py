"""Ids sort by the time they were made."""

import threading
import uuid

from assets.ids import new_id, uuid7


def test_uuid7_known_parts_lay_out_as_rfc_9562_says() -> None:
    # RFC 9562 A.6: the example of a version 7 UUID.
    made = uuid7(0x017F22E279B0, 0xCC3, 0x18C4DC0C0C07398F)
    assert made == uuid.UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


def test_uuid7_parts_too_wide_are_cut_and_leave_version_and_variant() -> None:
    made = uuid7((1 << 60) - 1, (1 << 60) - 1, (1 << 80) - 1)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_new_id_made_in_a_row_sorts_strictly() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert [i.hex for i in made] == sorted(i.hex for i in made)


def test_new_id_made_by_many_threads_never_repeats() -> None:
    made: list[uuid.UUID] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id() for _ in range(2000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({i.int >> 64 for i in made}) == 16_000
