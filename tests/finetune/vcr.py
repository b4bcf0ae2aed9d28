"""What the tests of VCR share."""

import numpy as np


def predictions_for(questions, choose):
    """Certain predictions: all probability for the choice that ``choose`` makes."""
    found = []
    for question in questions:
        probabilities = np.eye(4)[choose(question)].tolist()
        item = {"annot_id": question.annot_id, "part": question.part, "given": question.given}
        found.append({**item, "right": question.right, "probabilities": probabilities})
    return found
