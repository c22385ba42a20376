"""TensorFlow Probability distributions of scene models; everything here computes in float32."""
