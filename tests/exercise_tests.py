"""What every lab's exercises must withstand, written once; a lab's test file adds its own wrong answers."""

import inspect

import torch

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
            cases = [(number, *case) for number, cases in self.wrong.items() for case in cases]
            metafunc.parametrize(("number", "attempt", "message"), cases, ids=names(metafunc.module, cases))
        elif "attempt" in metafunc.fixturenames:
            metafunc.parametrize(("number", "attempt"), self.right, ids=names(metafunc.module, self.right))
        elif "number" in metafunc.fixturenames:
            metafunc.parametrize("number", self.exercises)

    def solution(self, number):
        """The answer taken as right; a lab overrides it where the solution itself measures time."""
        return self.exercises[number].solution

    def test_a_wrong_answer_earns_its_message(self, number, attempt, message):
        for _ in range(self.rounds):
            judgement = judge(self.exercises[number], attempt)
            assert judgement.state == NOT_YET
            assert message in judgement.message, judgement.message

    def test_an_exercise_has_four_wrong_answers_with_messages_of_their_own(self, number):
        assert len({message for _, message in self.wrong[number]}) >= 4

    def test_the_starter_is_not_attempted(self, number):
        assert judge(self.exercises[number], self.exercises[number].starter).state == NOT_ATTEMPTED

    def test_the_starter_itself_is_not_a_solution(self, number):
        """Were it recognised too loosely, or were the check too weak, this would pass as solved."""
        starter = self.exercises[number].starter
        assert judge(self.exercises[number], lambda *inputs: starter(*inputs)).state == NOT_YET

    def test_the_solution_solves(self, number):
        for _ in range(self.rounds):
            judgement = judge(self.exercises[number], self.solution(number))
            assert judgement.state == SOLVED, judgement.message

    def test_another_right_answer_solves(self, number, attempt):
        judgement = judge(self.exercises[number], attempt)
        assert judgement.state == SOLVED, judgement.message

    def test_the_check_runs_the_attempt_and_not_the_solution(self, number, monkeypatch):
        right, solution = self.solution(number), self.exercises[number].solution

        def poisoned(*inputs):
            raise AssertionError("the check called the solution in the learner's place")

        monkeypatch.setattr(inspect.getmodule(solution), solution.__name__, poisoned)
        calls = []

        def attempt(*inputs):
            if not torch.compiler.is_compiling():  # the compiler would see a list that changes at each call
                calls.append(1)
            return right(*inputs)

        assert judge(self.exercises[number], attempt).state == SOLVED
        assert calls

    def test_an_attempt_that_raises_says_what(self, number):
        def raises(*inputs):
            raise RuntimeError("broken on purpose")

        judgement = judge(self.exercises[number], raises)
        assert judgement.state == NOT_YET
        assert "broken on purpose" in judgement.message


def names(module, cases):
    """What the test file calls each attempt, which may be a class or made by a factory."""
    called = {id(value): name for name, value in vars(module).items()}
    return [f"{number}-{called.get(id(attempt), attempt.__name__)}" for number, attempt, *_ in cases]
