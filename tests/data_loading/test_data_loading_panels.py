from labs_lib.data_loading.panels import model_panel
from labs_lib.data_loading.simulate import simulate


def test_every_control_works_at_both_ends_and_changes_what_is_said():
    panel = model_panel()
    swept = list(panel.sweep())
    assert all(picture.png.startswith(b"\x89PNG") for _, picture in swept)
    for name in panel.controls:
        at_the_ends = {picture.says for state, picture in swept if state[name] != panel.controls[name].value}
        assert at_the_ends - {panel.picture.says}


def test_the_panel_says_what_the_virtual_clock_says():
    panel = model_panel()
    run = simulate(batches=12, wait=40, cpu=10, step=10, workers=4, prefetch=2, cores=2, startup=20)
    said = panel.set(workers=4).says
    assert f"12 batches take {run.epoch} ticks, and the model waits in {run.idle} of them" in said


def test_the_answer_of_littles_law_is_offered_and_leaves_only_the_first_wait():
    panel = model_panel()
    assert "12 batches take 190 ticks" in panel.set(workers=5).says
    assert "70 for the first batch (20 of them while workers start), 0 later" in panel.picture.says
    assert ", 0 later" not in panel.set(workers=4).says
    assert panel.set(workers=1).says.startswith("1 worker with")


def test_workers_end_the_waiting_for_storage_and_not_that_for_a_core():
    panel = model_panel()
    shares = []
    for cpu in (5, 40):
        few, many = (panel.set(workers=workers, cpu=cpu, wait=40 if cpu == 5 else 0) for workers in (2, 8))
        shares.append(tuple(int(one.says.split(" batches take ")[1].split()[0]) for one in (few, many)))
    (waiting_few, waiting_many), (computing_few, computing_many) = shares
    assert waiting_few > 1.5 * waiting_many
    assert computing_few < 1.1 * computing_many
