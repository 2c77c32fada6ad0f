define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) #0 {
entry:
  %b0.p = getelementptr inbounds ptr, ptr %args, i64 0
  %b0 = load ptr, ptr %b0.p, !dereferenceable !3
  %b1.p = getelementptr inbounds ptr, ptr %results, i64 0
  %b1 = load ptr, ptr %b1.p, !dereferenceable !3
  %0 = load float, ptr %b0, align 4, !alias.scope !7
  %1 = getelementptr inbounds float, ptr %b0, i64 1
  %2 = load float, ptr %1, align 4, !alias.scope !7
  %3 = getelementptr inbounds float, ptr %b0, i64 2
  %4 = load float, ptr %3, align 4, !alias.scope !7
  %5 = insertelement <4 x float> poison, float %0, i64 0
  %6 = insertelement <4 x float> %5, float %2, i64 1
  %7 = insertelement <4 x float> %6, float %4, i64 2
  %8 = insertelement <4 x float> %7, float %0, i64 3
  br label %L1
L1:
  %9 = phi i64 [ 0, %entry ], [ %20, %L1 ]
  %10 = phi <4 x float> [ %8, %entry ], [ %19, %L1 ]
  %11 = shufflevector <4 x float> %10, <4 x float> poison, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %12 = fmul <4 x float> %11, <float 0x3FC99999A0000000, float 0x3FD3333340000000, float 0x3FD99999A0000000, float 0x3FC99999A0000000>
  %13 = shufflevector <4 x float> %10, <4 x float> poison, <4 x i32> <i32 1, i32 1, i32 1, i32 1>
  %14 = call <4 x float> @llvm.fmuladd.v4f32(<4 x float> %13, <4 x float> <float 0xBFD3333340000000, float 0xBFC99999A0000000, float 0xBFB99999A0000000, float 0xBFD3333340000000>, <4 x float> %12)
  %15 = shufflevector <4 x float> %10, <4 x float> poison, <4 x i32> <i32 2, i32 2, i32 2, i32 2>
  %16 = call <4 x float> @llvm.fmuladd.v4f32(<4 x float> %15, <4 x float> <float 0xBFE3333340000000, float 0xBFE0000000000000, float 0xBFD99999A0000000, float 0xBFE3333340000000>, <4 x float> %14)
  %17 = call <4 x float> @shared.tanh.v4f32(<4 x float> %16)
  %18 = fmul <4 x float> %17, splat (float 0x3FE0000000000000)
  %19 = fadd <4 x float> %10, %18
  %20 = add nsw i64 %9, 1
  %21 = icmp slt i64 %20, 5
  br i1 %21, label %L1, label %L2, !llvm.loop !8
L2:
  %22 = extractelement <4 x float> %19, i64 0
  %23 = extractelement <4 x float> %19, i64 1
  %24 = extractelement <4 x float> %19, i64 2
  store float %22, ptr %b1, align 4, !alias.scope !9, !noalias !10
  %25 = getelementptr inbounds float, ptr %b1, i64 1
  store float %23, ptr %25, align 4, !alias.scope !9, !noalias !10
  %26 = getelementptr inbounds float, ptr %b1, i64 2
  store float %24, ptr %26, align 4, !alias.scope !9, !noalias !10
  ret i32 0
}

declare <4 x float> @shared.tanh.v4f32(<4 x float>) #2
attributes #0 = { nounwind alignstack=64 }
attributes #1 = { noinline nounwind alignstack=64 }
attributes #2 = { nofree norecurse nosync nounwind willreturn memory(none) }
attributes #3 = { nounwind }
attributes #4 = { alwaysinline nofree norecurse nosync nounwind willreturn memory(none) }
attributes #5 = { noinline nofree norecurse nosync nounwind willreturn memory(none) }

!0 = !{!"branch_weights", i32 1, i32 1048576}
!1 = !{!"llvm.loop.mustprogress"}
!2 = !{i32 1}
!3 = !{i64 12}
!4 = distinct !{!4}
!5 = distinct !{!5, !4}
!6 = distinct !{!6, !4}
!7 = !{!5}
!8 = distinct !{!8, !1}
!9 = !{!6}
!10 = !{!5}
