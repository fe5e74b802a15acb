"""One line for each technical word of a report."""

import re
from collections.abc import Mapping
from typing import Any

WORDS = {
    "labelled, unlabelled row": "A row whose answer is known, and one whose answer is not.",
    "supervised": "Learnt from the labelled rows alone.",
    "estimate": (
        "The score to expect on new rows. Each labelled row was judged by learners that had not seen it, and having "
        "picked the best of many learners is subtracted again."
    ),
    "67 % (60–73)": "An estimate and its 90 % interval: nine times out of ten the true score lies between the ends.",
    "points": "Differences of percentages: from 67 % to 83 % is 16 points.",
    "probability that they helped": (
        "How sure it is, row by row on the labelled ones, that the result is better than the same without unlabelled "
        "rows. 0.5 is a coin toss; 0.9 and more is called a gain."
    ),
    "balanced accuracy": "The share of right answers in each class, averaged over the classes.",
    "accuracy": "The share of right answers.",
    "learner": "One way of learning, on one way of looking at the data.",
    "committee": (
        "Learners whose probabilities are averaged; what those on different sorts of columns (texts, an image, "
        "numbers) say is multiplied."
    ),
    "student": "A small model that was taught to say what the committee says.",
    "agreement": "The share of rows, not used for teaching, on which the student says the same as the committee.",
    "expected shares": (
        "How common the classes are among rows to come, also called the prior. The result leans to common classes as "
        "far as they are common."
    ),
    "standard error": "What chance alone does to a score; a smaller difference means nothing.",
    "fold": "A part of the labelled rows that is held out while the rest is learnt from; each part has its turn.",
    "calibration": "Whether the result is right in 80 % of the cases in which it says 80 %.",
    "coverage": "How often the set of classes that cannot be ruled out holds the right one.",
}
LEARNERS = {
    "logistic regression": "Weighs every feature; a straight line between classes.",
    "kernel machine": "A support vector machine: a curved line between classes, as far from the rows as it can be.",
    "extra trees": "Many random decision trees that vote.",
    "random forest": "Many decision trees that vote, each grown on other rows and columns.",
    "naive Bayes": "Counts how often each word occurs in each class.",
    "EM naive Bayes": "Naive Bayes that guesses the unlabelled rows, counts their words too, and guesses again.",
    "co-EM": "Naive Bayes on several looks at a text, which guess the unlabelled rows together.",
    "Gaussians": "One cloud of rows for each class, all clouds of one shape.",
    "EM Gaussians": "The same, with the shape and the places of the clouds learnt from the unlabelled rows too.",
    "graph": "Joins each row to those most like it and lets the labels spread along the joins.",
    "taught by graph": "Trained on the labels that the graph found.",
    "taught by the committee": "Trained on what the learners say together of the unlabelled rows.",
    "self-training": "Learns, labels the rows it is surest of, and learns from these too.",
    "co-training": "Two learners that look at different parts of the data label rows for each other.",
    "tri-training": "Three learners; where two agree, they teach the third.",
    "quotas": "Limits on newly labelled rows by class, so that no class takes over.",
    "stiff": "Held closer to the simplest answer.",
    "words": "Which words and pairs of words a text has.",
    "characters": "Which short runs of letters a text has; forgives spelling.",
    "topics": "Texts condensed to a few hundred numbers, learnt from all rows.",
    "table": "Numbers and categories, brought to one scale.",
    "curves": "The shapes along a row of numbers that make a curve, such as a course in time.",
    "encoder": "A network trained elsewhere on much data; its view of each row.",
    "patches": "Which small patterns a picture has.",
    "edges": "Where in a picture the edges run.",
    "pixels": "The picture, made small.",
    "loudness": "How loud a sound is.",
    "sound": "How the pitch and colour of a sound change.",
}


def glossary(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines for the words that this report uses, in order."""
    unused = {"accuracy", "balanced accuracy"} - {values["metric"]}
    if not values["rows"]["unlabelled"]:
        unused |= {"labelled, unlabelled row", "probability that they helped"}
    if len(values["chosen"]["members"]) < 2:
        unused |= {"committee"}
    names = "\n".join(candidate["name"] for candidate in values["candidates"])
    found = [(word, line) for word, line in LEARNERS.items() if re.search(rf"(?<![\w-]){re.escape(word)}(?!\w)", names)]
    return [(word, line) for word, line in WORDS.items() if word not in unused] + found
