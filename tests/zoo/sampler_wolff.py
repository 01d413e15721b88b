from flowcut.joint.swendsen_wang import wolff
from tests.zoo.entry import SamplerEntry

entry = SamplerEntry("wolff", wolff, thin=100, attractive=True)
