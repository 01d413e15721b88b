from flowcut.joint.gibbs import gibbs
from tests.zoo.entry import SamplerEntry

entry = SamplerEntry("gibbs", gibbs, thin=20)
