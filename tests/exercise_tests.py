"""What every lab's exercises must withstand, written once; a lab's test file adds its own wrong answers."""

import inspect

from labs_lib.exercises import NOT_ATTEMPTED, NOT_YET, SOLVED, judge


class ExerciseTests:
    """Subclass it as TestExercises, with the three tables below.

    `exercises`: the lab's EXERCISES. `wrong`: for each exercise (attempt, a part of the message it must earn).
    `right`: (exercise, attempt) for right answers that are written differently from the solution.
    """

    exercises: dict
    wrong: dict
    right: tuple = ()
    rounds = 2  # the checks draw fresh inputs

    def pytest_generate_tests(self, metafunc):
        if "message" in metafunc.fixturenames:
            cases = [(id, *case) for id, cases in self.wrong.items() for case in cases]
            names = [f"{id}-{name_of(attempt)}" for id, attempt, _ in cases]
            metafunc.parametrize(("id", "attempt", "message"), cases, ids=names)
        elif "another" in metafunc.fixturenames:
            names = [f"{id}-{name_of(attempt)}" for id, attempt in self.right]
            metafunc.parametrize(("id", "another"), self.right, ids=names)
        elif "id" in metafunc.fixturenames:
            metafunc.parametrize("id", self.exercises)

    def solution(self, id):
        """The answer taken as right; a lab overrides it where the solution itself measures time."""
        return self.exercises[id].solution

    def test_a_wrong_answer_earns_its_message(self, id, attempt, message):
        for _ in range(self.rounds):
            judgement = judge(self.exercises[id], attempt)
            assert judgement.state == NOT_YET
            assert message in judgement.message, judgement.message

    def test_an_exercise_has_four_wrong_answers_with_messages_of_their_own(self, id):
        assert len({message for _, message in self.wrong[id]}) >= 4

    def test_the_starter_is_not_attempted(self, id):
        assert judge(self.exercises[id], self.exercises[id].starter).state == NOT_ATTEMPTED

    def test_the_starter_itself_is_not_a_solution(self, id):
        """Were it recognised too loosely, or were the check too weak, this would pass as solved."""
        starter = self.exercises[id].starter
        assert judge(self.exercises[id], lambda *inputs: starter(*inputs)).state == NOT_YET

    def test_the_solution_solves(self, id):
        for _ in range(self.rounds):
            judgement = judge(self.exercises[id], self.solution(id))
            assert judgement.state == SOLVED, judgement.message

    def test_another_right_answer_solves(self, id, another):
        judgement = judge(self.exercises[id], another)
        assert judgement.state == SOLVED, judgement.message

    def test_the_check_runs_the_attempt_and_not_the_solution(self, id, monkeypatch):
        right, solution = self.solution(id), self.exercises[id].solution

        def poisoned(*inputs):
            raise AssertionError("the check called the solution in the learner's place")

        monkeypatch.setattr(inspect.getmodule(solution), solution.__name__, poisoned)
        calls = []

        def attempt(*inputs):
            calls.append(1)
            return right(*inputs)

        assert judge(self.exercises[id], attempt).state == SOLVED
        assert calls

    def test_an_attempt_that_raises_says_what(self, id):
        def raises(*inputs):
            raise RuntimeError("broken on purpose")

        judgement = judge(self.exercises[id], raises)
        assert judgement.state == NOT_YET
        assert "broken on purpose" in judgement.message


def name_of(attempt):
    return getattr(attempt, "__name__", repr(attempt))
