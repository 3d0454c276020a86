from stages.train.losses.loss import Loss


class SquaredHinge(Loss):
    def __init__(self, settings):
        super().__init__()

    def forward(self, inputs):
        shortfall = (inputs.worst / (2 * inputs.eps_input)).relu()
        return shortfall.amax(1).square().sum() / inputs.count

    def at(self, rise):
        return {"sharpness": 1 + rise}


LOSS = SquaredHinge
